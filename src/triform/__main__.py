from triform.cli import enter

enter()
